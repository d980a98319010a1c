// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {ForgeTest, IWholeBlockOTA} from "./Forge.sol";

/// @title Names that differ from a valid one in few bits
contract Names is ForgeTest {
    IWholeBlockOTA private _record;

    function setUp() external {
        _record = _deployBlockOTA(address(this));
    }

    function test_B2_notOneBitFollowsAName() external {
        for (uint256 length = 1; length < 32; ++length) {
            uint256 name = uint256(bytes32("acme-thermo2-of-the-second-kind")) & ~(type(uint256).max >> (8 * length));
            _pair(bytes32(name), "");
            for (uint256 bit = 8; bit > 0; --bit) {
                // A single bit is either "@", which is valid except in the 32nd place, or an invalid character.
                bytes32 longer = bytes32(name | (1 << (256 - 8 * length - bit)));
                bool good = length < 31 && longer[length] > 0x20 && longer[length] < 0x7f;
                _pair(longer, good ? bytes("") : abi.encodeWithSelector(IBlockOTA.NameInvalid.selector, longer));
            }
        }
    }

    function _pair(bytes32 name, bytes memory refusal) private {
        _expect(address(this), address(_record), abi.encodeCall(_record.pairOem, (name, "ACME", 1, 2, 3)), refusal);
        _expect(address(this), address(_record), abi.encodeCall(_record.pairOem, ("other", name, 1, 2, 3)), refusal);
    }
}
