// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";

/// @title Cheat codes of Halmos
interface Svm {
    /// @notice Returns calldata of any writing function of the contract, with symbolic arguments.
    function createCalldata(string calldata contractName) external pure returns (bytes memory data);

    /// @notice Returns a symbolic value.
    function createBytes32(string calldata name) external pure returns (bytes32 value);

    /// @notice Makes an account's storage symbolic, so that a proof covers every state.
    function enableSymbolicStorage(address account) external;
}

/// @title Cheat codes of Foundry that Halmos supports
interface CheckVm {
    function assume(bool condition) external pure;

    function prank(address sender) external;

    function warp(uint256 time) external;

    function store(address account, bytes32 slot, bytes32 word) external;

    function etch(address account, bytes calldata code) external;

    function load(address account, bytes32 slot) external view returns (bytes32 word);

    function getCode(string calldata path) external view returns (bytes memory creationCode);
}

/// @title Base of all symbolic checks
abstract contract HalmosCheck {
    CheckVm internal constant vm = CheckVm(address(uint160(uint256(keccak256("hevm cheat code")))));
    Svm internal constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    /// @dev The owner that BlockOTA is deployed with: an account without code.
    address internal constant SAFE = address(0x5AFE);

    /// @dev The largest number of storage slots that one of the contracts has outside mappings and lists.
    uint256 private constant PLAIN_WORDS = 4;

    /// @dev Makes an account's storage symbolic. Halmos keeps the slots that the constructor wrote, so they are
    /// overwritten here.
    function _fillWithAnything(address account) internal {
        svm.enableSymbolicStorage(account);
        for (uint256 word = 0; word < PLAIN_WORDS; ++word) {
            vm.store(account, bytes32(word), svm.createBytes32("word"));
        }
    }

    /// @dev Logical and without a branch: Halmos would follow each side of `&&` as a separate path.
    function _both(bool one, bool two) internal pure returns (bool result) {
        assembly {
            result := and(one, two)
        }
    }

    /// @dev Logical or without a branch, see `_both`.
    function _either(bool one, bool two) internal pure returns (bool result) {
        assembly {
            result := or(one, two)
        }
    }

    /// @dev Deploys the bytecode that the package ships, except for the metadata hash.
    function _deploy(string memory path, address argument) internal returns (address deployed) {
        return _deployWith(path, abi.encode(argument));
    }

    /// @dev Deploys as `_deploy` does, with the constructor's encoded arguments.
    function _deployWith(string memory path, bytes memory arguments) internal returns (address deployed) {
        return _create(abi.encodePacked(vm.getCode(path), arguments));
    }

    /// @dev Creates a contract by its creation code with arguments.
    function _create(bytes memory code) internal returns (address deployed) {
        assembly {
            deployed := create(0, add(code, 0x20), mload(code))
        }
        assert(deployed != address(0));
    }

    /// @dev Makes any writing call of BlockOTA as any sender; returns whether it succeeded. The OEM's name is fixed:
    /// no result depends on it, and another symbolic name would square the number of paths.
    function _callBlockOTA(address record, address sender) internal returns (bool done) {
        bytes memory data = svm.createCalldata("BlockOTA");
        if (bytes4(data) == IBlockOTA.pairOem.selector) {
            uint256 other = uint256(svm.createBytes32("pairing"));
            (uint16 chipId, uint32 start, uint32 size) = (uint16(other), uint32(other >> 16), uint32(other >> 48));
            data = abi.encodeCall(IBlockOTA.pairOem, (svm.createBytes32("product"), "ACME", chipId, start, size));
        }
        vm.prank(sender);
        (done, ) = record.call(data);
    }

    /// @dev Makes any writing call of FirmwareReplication as any sender; returns whether it succeeded. The stored URI
    /// that an announcement replaces is encoded as the compiler does it, and at most as long as the contract allows.
    function _callReplication(address replication, address sender) internal returns (bool done) {
        bytes memory data = svm.createCalldata("FirmwareReplication");
        bytes4 selector = bytes4(data);
        if (selector == IFirmwareReplication.announce.selector) {
            uint256 word = uint256(_entryWord(replication, uint64(uint256(_argument(data, 0))), 3));
            vm.assume(word == 0 || word == 2 * 80 + 1); // a path each: the compiler's loop needs a length
        } else if (selector == IFirmwareReplication.propose.selector) {
            _assumeItsOwn(replication, _argument(data, 0), uint64(uint256(_argument(data, 1))), sender);
        }
        vm.prank(sender);
        (done, ) = replication.call(data);
    }

    /// @dev Returns one of the four slots of an agreement (docs/contracts.md).
    function _entryWord(address replication, uint64 id, uint256 place) internal view returns (bytes32) {
        return vm.load(replication, bytes32(uint256(keccak256(abi.encode(id, 1))) + place));
    }

    /// @dev Returns the id of the agreement that a broker proposed last for a release.
    function _newest(
        address replication,
        bytes32 product,
        uint64 version,
        address broker
    ) internal view returns (uint64) {
        bytes32 index = keccak256(abi.encode(version, keccak256(abi.encode(product, 2))));
        return uint64(uint256(vm.load(replication, keccak256(abi.encode(broker, uint256(index) + 1)))));
    }

    /// @dev The newest agreement of a broker, if any, belongs to that broker; proven by check_R3.
    function _assumeItsOwn(address replication, bytes32 product, uint64 version, address broker) private view {
        uint64 id = _newest(replication, product, version, broker);
        uint256 word = uint256(_entryWord(replication, id, 0));
        vm.assume(_either(_both(id == 0, word == 0), _both(id != 0, address(uint160(word)) == broker)));
    }

    /// @dev Returns an argument of a call.
    function _argument(bytes memory data, uint256 place) internal pure returns (bytes32 word) {
        assembly {
            word := mload(add(add(data, 0x24), mul(place, 0x20)))
        }
    }
}
