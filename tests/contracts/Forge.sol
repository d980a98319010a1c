// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";

/// @title Cheat codes of Foundry
interface Vm {
    /// @notice Sets the sender of the next call.
    function prank(address sender) external;

    /// @notice Sets the block's time.
    function warp(uint256 time) external;

    /// @notice Sets the block's number.
    function roll(uint256 number) external;

    /// @notice Returns the public key of a private key on the curve P-256.
    function publicKeyP256(uint256 privateKey) external view returns (uint256 x, uint256 y);

    /// @notice Discards a run whose inputs do not satisfy the condition.
    function assume(bool condition) external pure;

    /// @notice Gives an account ether.
    function deal(address account, uint256 amount) external;

    /// @notice Deploys the bytecode of an artifact.
    function deployCode(string calldata artifact, bytes calldata arguments) external returns (address deployed);

    /// @notice Returns whether forge runs in a mode, such as 2 for `forge coverage`.
    function isContext(uint8 mode) external view returns (bool result);
}

/// @title The whole interface of BlockOTA, including the functions inherited from OpenZeppelin
interface IWholeBlockOTA is IBlockOTA {
    function owner() external view returns (address);

    function pendingOwner() external view returns (address);

    function paused() external view returns (bool);

    function transferOwnership(address newOwner) external;

    function acceptOwnership() external;

    function renounceOwnership() external;
}

/// @title Base of all Foundry tests
abstract contract ForgeTest {
    /// @notice Foundry recognises a test contract by this function.
    bool public constant IS_TEST = true;

    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint8 private constant COVERAGE = 2;

    /// @dev Deploys the bytecode that the package ships; to measure coverage, the bytecode that forge compiled.
    function _deploy(string memory name, bytes memory arguments) internal returns (address) {
        string memory artifact = vm.isContext(COVERAGE)
            ? string.concat(name, ".sol:", name)
            : string.concat("blockota/artifacts/", name, ".json");
        return vm.deployCode(artifact, arguments);
    }

    /// @dev Deploys BlockOTA.
    function _deployBlockOTA(address owner) internal returns (IWholeBlockOTA) {
        return IWholeBlockOTA(_deploy("BlockOTA", abi.encode(owner)));
    }

    /// @dev Calls; requires success if `refusal` is empty, and otherwise exactly this error.
    function _expect(address sender, address target, bytes memory data, bytes memory refusal) internal {
        vm.prank(sender);
        (bool success, bytes memory answer) = target.call(data);
        if (success && refusal.length != 0) revert(string.concat("not refused: ", _hex(refusal)));
        if (!success && refusal.length == 0) revert(string.concat("refused: ", _hex(answer)));
        if (!success && keccak256(answer) != keccak256(refusal)) revert(string.concat("another error: ", _hex(answer)));
    }

    /// @dev Returns a number from `low` to `high`, both included.
    function _pick(uint256 seed, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + (seed % (high - low + 1));
    }

    /// @dev Derives a new seed.
    function _mix(uint256 seed, string memory purpose) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, purpose)));
    }

    function _hex(bytes memory data) private pure returns (string memory text) {
        bytes memory digits = "0123456789abcdef";
        bytes memory out = new bytes(2 * data.length);
        for (uint256 i = 0; i < data.length; ++i) {
            out[2 * i] = digits[uint8(data[i]) >> 4];
            out[2 * i + 1] = digits[uint8(data[i]) & 15];
        }
        return string(out);
    }
}
