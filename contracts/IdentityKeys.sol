// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";

import {CodeRecord} from "./CodeRecord.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";

/// @title Formats of public keys, and records of the generations of an identity's keys
/// @dev A record (`CodeRecord`) has these bytes: previous identity 16, virtual IP 4, first block 5, account 20, log key
/// 32, tunnel key 32, kind of the key 1, key. The previous identity and the virtual IP are the same in each record of
/// an identity, and are called its seat.
library IdentityKeys {
    uint256 private constant IP_AT = 16;
    uint256 private constant BLOCK_AT = 20;
    uint256 private constant ACCOUNT_AT = 25;
    uint256 private constant LOG_KEY_AT = 45;
    uint256 private constant TUNNEL_KEY_AT = 77;
    uint256 private constant KEY_KIND_AT = 109;
    uint256 private constant KEY_AT = 110;

    /// @dev Number of DER bytes before the modulus of an RSA key, and the bytes after it: the exponent 65,537.
    uint256 private constant RSA_PREFIX = 33;
    bytes5 private constant RSA_EXPONENT = 0x0203010001;

    /// @notice Stores a generation of keys, which begins with this block; returns the address of the record.
    function write(bytes memory seat, IIdentityRegistry.Generation memory keys) internal returns (address record) {
        return
            CodeRecord.write(
                abi.encodePacked(
                    seat,
                    uint40(block.number),
                    keys.account,
                    keys.logKey,
                    keys.tunnelKey,
                    keys.keyKind,
                    keys.key
                )
            );
    }

    /// @notice Returns the generation of keys in a record, without the block of its end.
    function read(address record) internal view returns (IIdentityRegistry.Generation memory keys) {
        keys.fromBlock = uint40(bytes5(CodeRecord.read(record, BLOCK_AT, 5)));
        keys.account = address(bytes20(CodeRecord.read(record, ACCOUNT_AT, 20)));
        keys.logKey = bytes32(CodeRecord.read(record, LOG_KEY_AT, 32));
        keys.tunnelKey = bytes32(CodeRecord.read(record, TUNNEL_KEY_AT, 32));
        keys.keyKind = IIdentityRegistry.KeyKind(uint8(bytes1(CodeRecord.read(record, KEY_KIND_AT, 1))));
        keys.key = CodeRecord.read(record, KEY_AT, CodeRecord.size(record) - KEY_AT);
    }

    /// @notice Returns the bytes that are the same in each record of an identity.
    function seatOf(address record) internal view returns (bytes memory seat) {
        return CodeRecord.read(record, 0, BLOCK_AT);
    }

    /// @notice Returns the identity that was enrolled before the one of a record; 0 if there is none.
    function previousOf(address record) internal view returns (bytes16 uuid) {
        return bytes16(CodeRecord.read(record, 0, IP_AT));
    }

    /// @notice Returns the virtual IP of the identity of a record.
    function virtualIpOf(address record) internal view returns (uint32 ip) {
        return uint32(bytes4(CodeRecord.read(record, IP_AT, 4)));
    }

    /// @notice Whether a key has the format of its kind.
    function isKey(IIdentityRegistry.KeyKind kind, bytes calldata key) internal pure returns (bool) {
        if (kind == IIdentityRegistry.KeyKind.P256) {
            return key.length == 64 && P256.isValidPublicKey(bytes32(key[:32]), bytes32(key[32:]));
        }
        if (kind == IIdentityRegistry.KeyKind.Ed25519) return key.length == 32;
        return kind == IIdentityRegistry.KeyKind.Rsa && _isRsaKey(key);
    }

    /// @dev Compares the DER bytes around the modulus, whose highest and lowest bits must be set. The lengths in the
    /// prefix follow from the length of the key.
    function _isRsaKey(bytes calldata der) private pure returns (bool) {
        uint256 length = der.length;
        if (length != 294 && length != 422 && length != 550) return false;
        bytes memory prefix = abi.encodePacked(
            hex"3082",
            uint16(length - 4),
            hex"300d06092a864886f70d01010105000382",
            uint16(length - 23),
            hex"003082",
            uint16(length - 28),
            hex"0282",
            uint16(length - 37),
            hex"00"
        );
        bytes calldata modulus = der[RSA_PREFIX:length - 5];
        bool whole = modulus[0] >= 0x80 && uint8(modulus[modulus.length - 1]) & 1 == 1;
        return whole && keccak256(der[:RSA_PREFIX]) == keccak256(prefix) && bytes5(der[length - 5:]) == RSA_EXPONENT;
    }
}
